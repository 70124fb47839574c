"""What commands share: a run with its images open, and the record that it keeps."""
