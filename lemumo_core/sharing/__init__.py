"""Model packages from and to other places: folders, HTTP servers and the Hugging Face Hub."""
