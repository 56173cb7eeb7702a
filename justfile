# The front door: `just` lists what there is. Each recipe is a script or a cargo command that also works by itself.

_list:
    @just --list --unsorted

# Server, generator and listener at work (Ctrl-C ends it; `just demo --seconds 10` ends by itself)
demo *options:
    scripts/demo {{ options }}

# The same over a real Redis
demo-redis *options:
    scripts/demo --redis {{ options }}

# Everything that must hold before a change lands; gets what the tests need
test:
    scripts/test

# Kill, freeze, cut, fill the disk, step the clock; then count: ten minutes of each broker, or as the options say
torture *options='--minutes 10':
    scripts/torture {{ options }}

# What it costs and how fast it is, beside a floor and other servers; see docs/benchmarks.md
bench *options:
    scripts/bench {{ options }}

# The quick part of it: format and lints
check:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings
