"""What happens when: Prefect flows and the `brickyard` command. Wiring only; no arrays."""
