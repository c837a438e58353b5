"""Fair-Gender: what a debias method buys and what it costs, and what each component adds."""
