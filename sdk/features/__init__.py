"""From validated tables to encoded ones: NVTabular workflows, statistics, loaders and negatives."""
