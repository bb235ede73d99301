import pytest
from click.testing import CliRunner


def run(*args):
    from recqueue.cli import cli

    width = {"COLUMNS": "110"}  # as in a pipe, whatever the processes of a parallel run are told
    return CliRunner().invoke(cli, [str(a) for a in args], catch_exceptions=False, env=width)


@pytest.fixture
def recqueue_as_it_is():
    """Run the command line in this process: ``recqueue_as_it_is("evaluate", "ncf").exit_code``."""
    return run


@pytest.fixture
def recqueue_command():
    """The same without headroom and remedies, which take most of the time and have tests of their own."""

    def brief(*args):
        studied = args and args[0] in ("evaluate", "max-rate", "optimize") and "--sensitivity" not in args
        return run(*args, *(("--sensitivity", "none") if studied else ()))

    return brief


@pytest.fixture
def small(tmp_path):
    """Write a scenario that is quick to study and whose table stops below its largest query."""
    path = tmp_path / "small.yaml"
    path.write_text(
        """
schema: 1
service:
  cpu:         {batch_size: [1, 16], latency_ms: [1.0, 8.0], cv: 0.1}
  accelerator: {batch_size: [1, 32], latency_ms: [1.0, 2.0]}
server: {cpu: "[own] cpu", cores: 4}
accelerator: {device: chip}
workload:
  sizes: {distribution: pmf, items: [4, 32], weight: [3, 1]}
policy: {batch_size: 8, offload_threshold: 32}
sla: {percentile: 90, latency_ms: 30}
qps: 300
"""
    )
    return path
