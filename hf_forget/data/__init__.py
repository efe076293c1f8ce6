"""Data and models that come as packages, and the files that ship with `hf_forget`."""
