"""Methods that are told an order of points and never a value; and their counterpart that is told values."""
