"""The `brickyard` command: options in, flow functions called, tables and trees out. No logic."""
