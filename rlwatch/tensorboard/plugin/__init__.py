"""The RLWATCH tab: TensorBoard's side of it, in Python, and the page, in `static/`."""
