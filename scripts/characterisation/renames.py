"""The names that changed, old → new: the text of an older build becomes that of a newer one.

Everything else must be equal, byte for byte. A later change of names adds its rows here.
"""

import itertools
import re

METRICS = {
    "sse_events_repeated": "sse_events_deduplicated",
    "sse_group_events": "sse_commit_batch_events",
    "sse_turned_away": "sse_streams_rejected",
    "sse_subscribers_closed": "sse_streams_closed",
    "sse_page_reads": "sse_history_page_reads",
    "sse_history_read": "sse_history_events_read",
    "sse_behind_tail": "sse_subscribers_fell_behind",
    "sse_forks": "sse_failover_losses",
}
# Values of the label `reason`.
REASONS = {
    "chatty": "too_much_input",
    "ended": "until_reached",
    "stopping": "shutdown",
}
FLAGS = {
    "--max-subscribers": "--streams-max",
    "SSE_MAX_SUBSCRIBERS": "SSE_STREAMS_MAX",
}
CODES = {
    "invalid_text": "invalid_utf8",
    "broken_body": "incomplete_body",
    "foreign_origin": "origin_not_allowed",
    "preflight_refused": "preflight_rejected",
    "unsupported_type": "unsupported_media_type",
    "invalid_key": "invalid_idempotency_key",
    "key_reused": "idempotency_key_reused",
    "too_many_keys": "too_many_idempotency_keys",
}
# Metrics that got a label which the old name did not have: their samples are added up.
SUMMED = ("sse_streams_rejected_total",)


def _metric(match):
    name, suffix = match[1], match[2] or ""
    return METRICS.get(name, name) + suffix


_PATTERNS = [
    (re.compile(r"\b(sse_\w+?)(_total|_count|_sum|_bucket)?(?!\w)"), _metric),
    (re.compile(r'(?<=reason=")\w+(?=")'), lambda match: REASONS.get(match[0], match[0])),
    (re.compile(r'(?<="code":")\w+(?=")'), lambda match: CODES.get(match[0], match[0])),
    (re.compile("|".join(map(re.escape, FLAGS))), lambda match: FLAGS[match[0]]),
]


def apply(text):
    """Returns the text of a run with new names in place of old ones."""
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return "\n".join(_sorted(_summed(text.split("\n"))))


def _sorted(lines):
    """Sorts the samples of each metric by their labels, whose new values sort differently."""
    sorted_lines = []
    for name, samples in itertools.groupby(lines, key=_labelled_metric):
        sorted_lines += sorted(samples) if name else samples
    return sorted_lines


def _labelled_metric(line):
    sample = re.match(r"= (\w+)\{reason=", line)
    return sample[1] if sample else None


def _summed(lines):
    """Replaces the samples of each metric in `SUMMED` by their sum, on the line of its type.

    A family with labels has no line at all before its first sample, so a sum of zero is left out.
    """
    kept = []
    for line in lines:
        sample = re.match(r"= (\w+)(?:\{.*\})? (\d+)$", line)
        if sample and sample[1] in SUMMED:
            kept[-1] = _with_sum(kept[-1], int(sample[2]))
        else:
            kept.append(line)
    return [line for line in kept if not _is_unused(line)]


def _with_sum(type_line, value):
    type_line, _, before = type_line.partition(", in all ")
    return f"{type_line}, in all {int(before or 0) + value}"


def _is_unused(line):
    """Whether a line is the type of a summed metric that counted nothing, or the help of any."""
    metric = re.match(r"[=~] # (?:HELP|TYPE) (\w+) ", line)
    if not metric or f"{metric[1]}_total" not in SUMMED:
        return False
    return line.endswith(", in all 0") or line.startswith("~")
