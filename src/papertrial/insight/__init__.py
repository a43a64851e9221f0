"""Reading models and readers: what they look at, and whether what is written about papers is true."""
