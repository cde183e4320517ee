"""Many tasks in processes of this machine, or on a Ray cluster, with progress and retries."""
