"""What the engines of large models share: devices, memory of a device, a second try when it runs out."""
