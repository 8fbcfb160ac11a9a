"""Two levels: an upper objective at the solution of a lower problem, with or without constraints."""
