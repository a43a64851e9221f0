"""A paper made up for the tests of the runner: its arms draw noise, sleep, fail and die on demand."""
