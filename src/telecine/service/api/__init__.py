"""HTTP in front of the use cases: what is asked for, by whom, and how it is answered."""
