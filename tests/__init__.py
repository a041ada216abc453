"""The tests of Gatebook; one folder per room, and `project/` for the project itself."""
