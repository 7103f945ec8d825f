"""What runs inside the sandbox: standard library only, and nothing of ours but this folder."""
