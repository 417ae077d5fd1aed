"""Function Apps to learn from, one folder per program or pattern. The README beside this file lists them."""
