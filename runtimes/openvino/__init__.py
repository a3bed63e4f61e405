"""OpenVINO: the default on CPUs."""
