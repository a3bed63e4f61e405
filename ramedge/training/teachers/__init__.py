"""Knowledge distillation: training with the outputs of a stronger network, the teacher.

After Hinton et al., "Distilling the Knowledge in a Neural Network" (arXiv 1503.02531), with the
loss on images instead of class probabilities.
"""
