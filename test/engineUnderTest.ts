/** The engine of the networks that the tests make: each project of vitest.config.ts names its own. */
import { ENGINE_CHOICES, type EngineChoice } from '../workers/engine/engine.js';

const wanted = process.env['SLIPWAY_ENGINE'];

export const ENGINE: EngineChoice = ENGINE_CHOICES.find((choice) => choice === wanted) ?? 'auto';
