"""The whole program, as real processes against real servers."""

import pytest

pytest.register_assert_rewrite("tests.acceptance.harness")
