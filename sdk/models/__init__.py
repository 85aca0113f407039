"""The models: content, DLRM and NCF, and the baselines they are measured against."""
