"""Which modules have the shapes of their arrays checked while tests run."""

from pathlib import Path

import rlwatch


def test_shapes_are_checked_in_every_module_that_names_axes(pytestconfig):
    *checked, _ = pytestconfig.getoption("jaxtyping_packages").split(",")
    root = Path(rlwatch.__file__).parents[1]
    files = [path for path in root.glob("rlwatch/**/*.py") if "from jaxtyping import" in path.read_text()]
    modules = [".".join(path.relative_to(root).with_suffix("").parts) for path in files]
    assert len(modules) > 10
    assert [one for one in modules if not any(f"{one}.".startswith(f"{part}.") for part in checked)] == []
