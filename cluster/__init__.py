"""Which machines there are and where a model goes on them; plain data, and Ray only at the rim."""
