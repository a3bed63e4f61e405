"""Where the attention of tiles comes from: block by block, fixed point, the previous frame."""
