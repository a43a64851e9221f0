"""The digest as web pages: served on this machine, or written as files for any host."""
