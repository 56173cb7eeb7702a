"""Which runs do not count: something was lost, or something else was running on the machine."""

# A machine like the one of the first measurements (2 cores) does not do worse than this by itself.
FLOOR_A_CPU_US_MAX = 10.0
# By scenario, peer and figure, what was measured then.
BEFORE = {
    ("A", "nchan", "cpu_us"): 13.95,
    ("A", "actix-web-lab", "cpu_us"): 12.9,
    ("A", "flask-sse", "cpu_us"): 329.0,
    ("B", "actix-web-lab", "delivery_p99_ms"): 372.0,
    ("B", "nchan", "delivery_p99_ms"): 3793.0,
}
WORSE_BY = 1.25
# Cores that others may have meanwhile. The kernel counts by samples, so a little is nothing.
OTHERS_CORES_MAX = 0.2


def of_run(data, run):
    """Why a measurement does not count; empty if it does.

    A floor or a peer that is too slow spoils all that was measured in its run.
    """
    if run["problems"]:
        return "; ".join(run["problems"])
    if run["others_cores"] > OTHERS_CORES_MAX:
        return f"something else was running: others had {run['others_cores']:.2f} cores"
    for other in data["runs"]:
        if other["run"] == run["run"] and (sign := _sign(data["scenario"], other)):
            return f"something else was running: {sign}"
    return ""


def _sign(scenario, run):
    """That others were at work, in words; empty if nothing says so."""
    for figure, value in run["figures"].items():
        before = BEFORE.get((scenario, run["subject"], figure))
        if before and value > before * WORSE_BY:
            return f"{figure} of {run['subject']} was {value:.4g}, on an idle machine {before:.4g}"
    if scenario == "A" and run["subject"] == "floor" and run["figures"].get("cpu_us", 0) > FLOOR_A_CPU_US_MAX:
        return f"the floor took {run['figures']['cpu_us']:.1f} µs for a delivery, more than {FLOOR_A_CPU_US_MAX:.0f}"
    return ""
