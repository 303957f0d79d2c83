"""The method in finite MDPs, where every distribution and every optimum is known exactly."""
