"""What leaves the machine: redaction, the model card."""
