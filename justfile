# Entry points of the project: `just` lists them. Each recipe runs a script or cargo command, which works directly too.

_list:
    @just --list --unsorted

# Run server, generator and listener together, until Ctrl-C or for a fixed time (`just demo --seconds 10`)
demo *options:
    scripts/demo {{ options }}

# Run the demo over a real Redis
demo-redis *options:
    scripts/demo --redis {{ options }}

# Run all checks that a change must pass; installs what the tests need
test:
    scripts/test

# Run the torture test: inject faults for ten minutes per broker (or as the options set), then check for lost events
torture *options='--minutes 10':
    scripts/torture {{ options }}

# Measure cost and speed, next to a floor and other servers; see docs/benchmarks.md
bench *options:
    scripts/bench {{ options }}

# Run the quick checks: format and lints
check:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings

# Build the packages: .deb files, and an archive of the binaries
package *options:
    scripts/package {{ options }}
