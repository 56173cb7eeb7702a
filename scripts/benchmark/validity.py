"""Which runs are invalid: events were lost, or other programs were running on the machine."""

# An upper bound for a machine like that of the first measurements (2 cores) without other load.
FLOOR_A_CPU_US_MAX = 10.0
# The first measurements, by scenario, peer and figure.
BEFORE = {
    ("A", "nchan", "cpu_us"): 13.95,
    ("A", "actix-web-lab", "cpu_us"): 12.9,
    ("A", "flask-sse", "cpu_us"): 329.0,
    ("B", "actix-web-lab", "delivery_p99_ms"): 372.0,
    ("B", "nchan", "delivery_p99_ms"): 3793.0,
}
WORSE_BY = 1.25
# Cores that other programs may use meanwhile. The kernel's counts are sampled, so small values mean nothing.
OTHERS_CORES_MAX = 0.2


def of_run(data, run):
    """Returns the reason why a measurement is invalid, or an empty string.

    A floor or a peer that is too slow makes all measurements of its run invalid.
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
    """Returns a sign that other programs were running, or an empty string."""
    for figure, value in run["figures"].items():
        before = BEFORE.get((scenario, run["subject"], figure))
        if before and value > before * WORSE_BY:
            return f"{figure} of {run['subject']} was {value:.4g}, on an idle machine {before:.4g}"
    if scenario == "A" and run["subject"] == "floor" and run["figures"].get("cpu_us", 0) > FLOOR_A_CPU_US_MAX:
        return f"the floor took {run['figures']['cpu_us']:.1f} µs for a delivery, more than {FLOOR_A_CPU_US_MAX:.0f}"
    return ""
