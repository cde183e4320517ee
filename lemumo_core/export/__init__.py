"""Models into ONNX graphs and TensorRT engines, and the proof of their parity."""
