import { describeLife } from './lifeTests.js';

describeLife(2);
