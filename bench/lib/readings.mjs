// What a trial reads of its own process.
import { readFileSync } from 'node:fs';
import { monitorEventLoopDelay, performance } from 'node:perf_hooks';

const LOOP_DELAY_RESOLUTION_MS = 1;

/**
 * Seconds that the JavaScript thread, which is the process's first, has been on a CPU. Undefined
 * where there is no /proc.
 */
function jsThreadSeconds() {
  // The kernel brings a running thread's count up to date at each tick, every few milliseconds,
  // and when the thread asks for its process's usage.
  process.cpuUsage();
  try {
    const [nanoseconds] = readFileSync(`/proc/self/task/${process.pid}/schedstat`, 'utf8').split(
      ' ',
    );
    return Number(nanoseconds) / 1e9;
  } catch {
    return undefined;
  }
}

/** @param {string} key a key of /proc/self/status whose value is in KiB */
export function statusKiB(key) {
  const status = readFileSync('/proc/self/status', 'utf8');
  return Number(new RegExp(`^${key}:\\s+(\\d+) kB$`, 'm').exec(status)?.[1]);
}

export function cpuSeconds() {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
}

/**
 * Starts to measure.
 * @param {boolean} loopDelay whether to measure the event loop's delay: the timer behind that takes
 *   more of the JavaScript thread than a transfer does, so it is a trial of its own
 * @returns a function that stops and gives the readings of the time between
 */
export function startReadings(loopDelay) {
  const delays = monitorEventLoopDelay({ resolution: LOOP_DELAY_RESOLUTION_MS });
  if (loopDelay) delays.enable();
  const utilization = performance.eventLoopUtilization();
  const began = performance.now();
  const cpuBefore = cpuSeconds();
  const jsThreadBefore = jsThreadSeconds();
  return () => {
    const jsThreadAfter = jsThreadSeconds();
    const cpuAfter = cpuSeconds();
    const ended = performance.now();
    const { utilization: loopUtilization } = performance.eventLoopUtilization(utilization);
    delays.disable();
    // What the timer comes late, beyond the time that it was set to.
    const p99 = Math.max(0, delays.percentile(99) / 1e6 - LOOP_DELAY_RESOLUTION_MS);
    if (loopDelay) return { loopDelayP99Ms: p99 };
    return {
      seconds: (ended - began) / 1000,
      cpuSeconds: cpuAfter - cpuBefore,
      ...(jsThreadBefore !== undefined && { jsThreadSeconds: jsThreadAfter - jsThreadBefore }),
      loopUtilization,
      residentMiB: process.resourceUsage().maxRSS / 1024,
    };
  };
}

/**
 * Seconds that a core has had nothing to do, to a hundredth. All else is what somebody, or the
 * kernel's own work (interrupts, packets), has used.
 * @param {number} core
 */
export function idleSecondsOf(core) {
  const stat = readFileSync('/proc/stat', 'utf8');
  const fields = new RegExp(`^cpu${core} (.*)$`, 'm').exec(stat)[1].split(' ');
  const [idle, waiting] = [fields[3], fields[4]];
  return (Number(idle) + Number(waiting)) / 100; // USER_HZ
}
