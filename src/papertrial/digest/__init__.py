"""A day's papers: collected, read, summarised, grounded and written."""
