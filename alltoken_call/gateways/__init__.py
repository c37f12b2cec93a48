"""What differs between gateways, without I/O."""
