export function fetchSuite(name: string, needs: string[], folder: string): void;
