"""Tests of programs: agents and workflows stepped with outcomes, no runtime involved."""
