import re

from studies import readme


def test_figures_in_the_readme_are_those_of_the_committed_results():
    text = readme.README.read_text()
    assert readme.from_files(text) == text


def test_python_in_the_readme_runs(capsys):
    (code,) = re.findall(r"```python\n(.*?)```", readme.README.read_text(), re.DOTALL)
    exec(code, {})
    assert capsys.readouterr().out.strip()
