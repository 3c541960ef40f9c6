export function compile(
  source: string,
): { program: string; missing?: undefined } | { program?: undefined; missing: string };
