import pytest
from click.testing import CliRunner


@pytest.fixture
def recqueue_command():
    """Run the command line in this process."""

    def run(*args):
        from recqueue.cli import cli

        return CliRunner().invoke(cli, [str(a) for a in args], catch_exceptions=False)

    return run
