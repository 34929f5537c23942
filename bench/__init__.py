"""The benchmark: our ladder beside three other ways to make it, in one run (`make bench`)."""
