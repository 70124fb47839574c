"""What `run.py --mode` picks from: each command is `main(run, folder)`."""
