import type { CompareReport } from './result.js';
export function comparePage(report: CompareReport): string { return JSON.stringify(report); }
