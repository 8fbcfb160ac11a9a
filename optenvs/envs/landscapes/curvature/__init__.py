"""Functions whose Hessians have structure: exact ones, and positive semidefinite approximations."""
