"""One process on its machine: signals, descriptors, sockets to listen on, the service manager."""
