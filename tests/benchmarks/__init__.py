"""Speed and size against yardsticks: ``python -m tests.benchmarks NAME``."""
