"""Looking at a network without training it: gradients, losses and activations, with everything put back afterwards."""
