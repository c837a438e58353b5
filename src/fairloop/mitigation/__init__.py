"""What the recursion can do against bias. A strategy is one file here (its class `Strategy`) and one YAML."""
