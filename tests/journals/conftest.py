"""Lets pytest explain the contract's asserts as it does those of test files."""

import pytest

pytest.register_assert_rewrite("gatebook.testing.journal_facts")
