"""A bundle becomes a Triton model repository; a real server for it; a client; and proof that both answer alike."""
