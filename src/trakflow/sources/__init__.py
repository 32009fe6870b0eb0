"""Where published data are had from: archives and package registries; nothing fetched is installed or run."""
